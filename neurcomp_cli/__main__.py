"""``python -m neurcomp_cli`` is ``neurcomp``."""

from neurcomp_cli.main import main

if __name__ == "__main__":
    main()
