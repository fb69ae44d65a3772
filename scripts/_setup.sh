# Sourced by the other scripts: a virtual environment with localspec in it. Sets $python.
# shellcheck shell=bash

fail() {
    echo "localspec: $1" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10 python; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && { echo "$candidate"; return; }
    done
    return 1
}

have_compiler() {
    command -v "${CXX:-c++}" >/dev/null 2>&1 || command -v g++ >/dev/null 2>&1 || command -v clang++ >/dev/null 2>&1
}

# setup EXTRAS: install this checkout (with EXTRAS such as "[dev]") unless that was done for this pyproject.toml already
setup() {
    local extras=$1 base venv stamp wanted log
    base=$(find_python) || fail "Python 3.10 or newer is needed and was not found; install it, or set PYTHON to it."
    venv=${LOCALSPEC_VENV:-$PWD/.venv}
    python=$venv/bin/python
    stamp=$venv/.localspec$extras
    wanted="$PWD $(cksum <pyproject.toml)"
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && "$python" -c 'import llama_cpp.llama_cpp, localspec' 2>/dev/null && return
    [ -x "$python" ] || "$base" -m venv "$venv" ||
        fail "Python cannot make a virtual environment in $venv; install its venv module (Debian: apt-get install python3-venv)."
    if ! "$python" -c 'import llama_cpp.llama_cpp' 2>/dev/null; then
        have_compiler ||
            fail "a C++ compiler is needed to build llama.cpp and was not found; install one (Debian: apt-get install g++; macOS: xcode-select --install)."
        echo "Installing localspec; llama.cpp is built once, which takes some minutes ..." >&2
    fi
    log=$(mktemp)
    "$python" -m pip install --disable-pip-version-check -q -e ".$extras" >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        fail "the installation failed; the log is in $log."
    }
    rm -f "$log"
    echo "$wanted" >"$stamp"
}

# with_rpc: build llama.cpp again, unless the installed one has RPC. Needs `setup` before, and CMAKE_ARGS.
with_rpc() {
    local check='import sys, llama_cpp.llama_cpp as lib; sys.exit(not lib.llama_supports_rpc())' log
    "$python" -c "$check" && return
    have_compiler || fail "a C++ compiler is needed to build llama.cpp with RPC and was not found; install one."
    echo "Building llama.cpp with RPC, which takes some minutes ..." >&2
    log=$(mktemp)
    "$python" -m pip install --disable-pip-version-check -q --force-reinstall \
        --no-cache-dir --no-deps --no-binary llama-cpp-python "llama-cpp-python>=0.3.36,<0.4" >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        fail "llama.cpp could not be built; the log is in $log."
    }
    rm -f "$log"
    "$python" -c "$check" || fail "the new build of llama.cpp lacks RPC; report this."
}
