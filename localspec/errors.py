"""Exceptions of localspec. Imports nothing.

::

    LocalspecError
    ├── UsageError                a value outside its range or set (also a ValueError)
    ├── InputError                data that cannot be used: encoding, message lists, conversations
    ├── ModelError
    │   ├── ModelNotFoundError    no such file or name
    │   ├── ModelFileError        not a GGUF file, damaged, or of an unsupported kind
    │   └── DraftMismatchError    a drafter that does not fit the target
    ├── BackendError              llama.cpp refused or failed
    │   ├── MissingFeatureError   this build of llama-cpp-python lacks a function
    │   └── WorkerError           another machine that holds layers cannot be used, or went away
    ├── PromptTooLongError        the prompt does not fit the context
    ├── HubError                  the Hub or the network refused, failed, or sent something unexpected
    ├── TemplateError             the chat template is missing, raised, or tried to leave the sandbox
    └── ConvertError              a checkpoint that cannot be converted

A message has one or two sentences: what is wrong, with the value, and what to do next.
"""

from __future__ import annotations


class LocalspecError(Exception):
    """Base of all errors. ``exit_code``: exit status of the command line."""

    exit_code = 1


class UsageError(LocalspecError, ValueError):
    """A value outside its allowed range or set. The message names both."""

    exit_code = 2


class InputError(LocalspecError):
    """Data from the user (a file, standard input, a message list) that cannot be used."""


class ModelError(LocalspecError):
    """A model file that cannot be used."""


class ModelNotFoundError(ModelError):
    """No file or known name."""


class ModelFileError(ModelError):
    """A file that is not GGUF, is damaged, or holds a kind of model that cannot be used this way."""


class DraftMismatchError(ModelError):
    """The drafter does not fit the target. The message gives the reason."""


class BackendError(LocalspecError):
    """llama.cpp refused or failed."""


class MissingFeatureError(BackendError):
    """The installed llama-cpp-python lacks a function."""


class WorkerError(BackendError):
    """Another machine that holds layers of the model cannot be used, or went away. The message names it."""


class PromptTooLongError(LocalspecError):
    """The prompt has more tokens than the context has cells."""


class HubError(LocalspecError):
    """The Hub or the network refused, failed or sent something unexpected, or the disk is full."""


class TemplateError(LocalspecError):
    """The chat template is missing, raised an error, or tried to leave its sandbox."""


class ConvertError(LocalspecError):
    """A checkpoint that cannot be converted; nothing was written."""
