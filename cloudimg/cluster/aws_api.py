"""Requests to AWS by botocore, with the user's credentials.

Errors become ClusterErrors that say which right is missing, and hold no credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cloudimg.errors import ClusterError
from cloudimg.storage.failures import cause_text, hide_secrets, is_about_credentials

T = TypeVar("T")


def connect(region: str) -> tuple[Any, Any]:
    """Clients of ECS and of Systems Manager."""
    # Not boto3: s3fs pins botocore to few versions, and pip would try hundreds of boto3's.
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError
    from botocore.session import get_session

    config = Config(retries={"mode": "standard", "total_max_attempts": 10})
    try:
        session = get_session()
        ecs = session.create_client("ecs", region_name=region, config=config)
        return ecs, session.create_client("ssm", region_name=region, config=config)
    except (BotoCoreError, ValueError) as exc:
        message = f"cannot create a client for AWS: {hide_secrets(str(exc))}"
        error = ClusterError(message, cause=cause_text(exc))
    raise error


def call(request: Callable[[], T], action: str) -> T:
    """Make a request to AWS and return its answer.

    Raises
    ------
    ClusterError
        If AWS refuses the request or does not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return request()
    except ClientError as exc:
        error = ClusterError(_refusal(exc.response.get("Error", {}), action), cause=cause_text(exc))
    except BotoCoreError as exc:
        cause = cause_text(exc)
        message = f"{action} failed: {cause}"
        if is_about_credentials(exc):
            message = (
                f"{action}: no valid AWS credentials ({cause}): log in again, for example with"
                " `aws sso login`, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"
            )
        error = ClusterError(message, cause=cause)
    raise error


def _refusal(error: Mapping[str, Any], action: str) -> str:
    code, text = error.get("Code", ""), hide_secrets(error.get("Message", ""))
    if code == "ParameterAlreadyExists":
        return (
            "there is already a job of this name: choose another name, or stop it with"
            " `cloudimg cluster down`"
        )
    message = f"AWS refused {action}: {code}: {text}"
    if "AccessDenied" in code or "NotAuthorized" in code:
        message += f". Your credentials need {action}, which the module's driver role allows"
    return message
