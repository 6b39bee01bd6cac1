"""`python -m icf_tools` is `icf`."""

from icf_tools.cli.app import main

if __name__ == "__main__":
    main()
