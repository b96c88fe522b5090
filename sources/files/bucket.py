"""A prefix of an S3 bucket as a folder of files, by the file systems of Arrow."""

from __future__ import annotations

import os
import re
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from pyarrow import fs

from pipeline.errors import Refused, TransientError
from sources.files.config import S3Block
from sources.files.folder import Folder, Found, Gone, Unreadable
from sources.files.pattern import Pattern

_CONNECT = 5.0
_ANSWER = 30.0
_REFUSED = re.compile(
    "ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT"
    "|EXPIRED_TOKEN|MISSING_AUTHENTICATION_TOKEN|INVALID_SIGNATURE|HTTP status 40[13]"
)
_HINT = "check `path`, the credentials, and `s3.endpoint` and `s3.region`"


class S3Folder(Folder):
    """What begins with a prefix, as `s3://BUCKET/PREFIX`. Where it is asked is what the block says, else what the environment does."""

    def __init__(self, path: str, pattern: Pattern, block: S3Block) -> None:
        bucket, _, prefix = path.removeprefix("s3://").partition("/")
        self._shown = path
        self._root = "/".join(filter(None, [bucket, *prefix.split("/")]))
        self._pattern = pattern
        self._options = _options(block)
        self._system: Any = None

    def look(self) -> list[Found]:
        try:
            found = self._files().get_file_info(fs.FileSelector(self._root, recursive=self._pattern.depth != 1))
        except FileNotFoundError:
            return []  # S3 has no folders: one without files is not there
        except OSError as error:
            raise self._error(error) from None
        below = len(self._root) + 1
        files = [Found(one.path[below:], one.size, _modified(one)) for one in found if one.type == fs.FileType.File]
        return [one for one in files if self._pattern.matches(one.name)]

    def open(self, file: Found) -> BinaryIO:
        path = f"{self._root}/{file.name}"
        try:
            (now,) = self._files().get_file_info([path])
            if now.type != fs.FileType.File or (now.size, _modified(now)) != (file.size, file.modified):
                raise Gone(f"{file.shown} has changed, or is not there any more")
            return cast(BinaryIO, self._files().open_input_file(path))
        except FileNotFoundError as error:
            raise Gone(f"{file.shown} is not there any more") from error
        except OSError as error:
            raise Unreadable(f"{file.shown} cannot be read: {_said(error)}", hint="it is tried again until it can") from None

    def _files(self) -> Any:
        if self._system is None:
            try:
                self._system = fs.S3FileSystem(**self._options)
            except (OSError, ValueError) as error:
                raise Refused(f"{self._shown} cannot be asked: {error}", hint=_HINT) from None
        return self._system

    def _error(self, error: OSError) -> Refused | TransientError:
        said = f"{self._shown} cannot be read: {_said(error)}"
        return Refused(said, hint=_HINT) if _REFUSED.search(str(error)) else TransientError(said, hint=_HINT)


def _modified(found: Any) -> int:
    """Whole seconds: some services tell more when they list than when they are asked for one object."""
    return int((found.mtime_ns or 0) // 10**9 * 10**9)


def _said(error: OSError) -> str:
    """What went wrong, without the request's number, which differs each time."""
    return re.sub(r"\s*\((Request ID|RequestId)[^)]*\)", "", str(error))


def _options(block: S3Block) -> dict[str, Any]:
    """For Arrow's client. What is not said here it finds itself: credentials in the environment, in files, or at the machine's own."""
    options: dict[str, Any] = {"connect_timeout": _CONNECT, "request_timeout": _ANSWER}
    region = block.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        options["region"] = region
    endpoint = block.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        where = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
        options |= {"endpoint_override": where.netloc, "scheme": where.scheme}
    if block.access_key is not None and block.secret_key is not None:
        options |= {"access_key": block.access_key, "secret_key": block.secret_key.get_secret_value()}
        if block.session_token is not None:
            options["session_token"] = block.session_token.get_secret_value()
    elif block.anonymous:
        options["anonymous"] = True
    return options
