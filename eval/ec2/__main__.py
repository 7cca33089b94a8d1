"""`python -m eval.ec2`: the command line, and its errors in words."""

from typing import NoReturn

import typer

FAILED = 1


def main() -> None:
    """Run the command line. What a user can do something about is told in a line, without a traceback."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it is an extra
    except ModuleNotFoundError:
        _complain("boto3 is not installed: .venv/bin/python -m pip install -e '.[ec2]'")
    from eval.ec2.cli import app  # noqa: PLC0415 - needs the above
    from services.cluster.errors import CannotDo  # noqa: PLC0415 - with it

    try:
        app(prog_name="python -m eval.ec2")
    except CannotDo as error:
        _complain(error.message)
    except (BotoCoreError, ClientError) as error:
        _complain(f"AWS: {error}")


def _complain(message: str) -> NoReturn:
    typer.echo(f"ec2: {message}", err=True)
    raise SystemExit(FAILED)


if __name__ == "__main__":
    main()
