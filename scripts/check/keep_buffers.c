// Keeps every Vulkan buffer that a program destroys, for Mesa's lavapipe (22.3): it crashes when it lets go of a buffer
// that was destroyed before, as llama.cpp's scratch buffers are when they grow. Preload it (scripts/check/gpu_vulkan).
#include <dlfcn.h>
#include <string.h>

typedef void (*function)(void);
typedef function (*lookup)(void *, const char *);

static lookup of_device;

static void keep(void *device, void *buffer, const void *allocator) {
    (void)device, (void)buffer, (void)allocator;
}

static function device_lookup(void *device, const char *name) {
    if (strcmp(name, "vkDestroyBuffer") == 0) return (function)keep;
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) return (function)device_lookup;
    return of_device(device, name);
}

function vkGetInstanceProcAddr(void *instance, const char *name) {
    static lookup of_instance;
    if (of_instance == 0) of_instance = (lookup)dlsym(dlopen("libvulkan.so.1", RTLD_NOW), "vkGetInstanceProcAddr");
    function found = of_instance(instance, name);
    if (found == 0) return found;
    if (strcmp(name, "vkDestroyBuffer") == 0) return (function)keep;
    if (strcmp(name, "vkGetDeviceProcAddr") != 0) return found;
    of_device = (lookup)found;
    return (function)device_lookup;
}
