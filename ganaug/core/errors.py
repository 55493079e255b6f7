"""Errors that are about what the caller gave; all are ``ValueError``s."""


class InputError(ValueError):
    """What the caller gave cannot be used.

    The message says what is wrong, what was given and what to do about it. Commands print it without a traceback.
    """


class DataError(InputError):
    """Labelled images that cannot be opened: a missing folder, an unreadable file, an empty class."""


class LoadError(InputError):
    """A saved generator that cannot be loaded: files missing, changed, or not made by this library."""


class PublishError(InputError):
    """A generator or dataset that could not be uploaded; what is on disk is as it was."""
