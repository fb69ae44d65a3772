"""Settings of every test: hypothesis draws the same examples each time, no test has a deadline or the user's cache."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it for what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("localspec", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("localspec")
#: Of scripts/check/mutate.py, for which any failure will do.
settings.register_profile("mutants", settings.get_profile("localspec"), phases=(Phase.explicit, Phase.generate))


@pytest.fixture(autouse=True, scope="session")
def _cache_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep caches, settings and models of tests and their child processes apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALSPEC_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("LOCALSPEC_CONFIG", str(tmp_path_factory.mktemp("settings") / "config.toml"))
        for variable in ("HF_HOME", "LMSTUDIO_HOME", "LLAMA_CACHE", "OLLAMA_MODELS"):
            patch.setenv(variable, str(tmp_path_factory.mktemp("models")))
        yield
