"""The command as a process: Ctrl-C and its like are heard before anything else is imported."""

import sys

from jaxnn.signals import heard


def main() -> int:
    """The exit code of the command that was given."""
    with heard(put_back=False) as ends:
        ends.at_once = True
        from jaxnn import cli

        return cli.main(sys.argv[1:], ends)


if __name__ == "__main__":
    sys.exit(main())
