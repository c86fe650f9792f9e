"""`python -m starvsr`."""

from starvsr.cli.app import main

if __name__ == "__main__":
    main()
