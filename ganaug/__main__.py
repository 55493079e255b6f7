"""``python -m ganaug`` is the command ``ganaug``, for launchers such as ``accelerate launch -m ganaug train``."""

from ganaug.cli import main

if __name__ == "__main__":
    main()
