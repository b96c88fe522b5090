"""A client of schema registries that speak Confluent's REST API; what it has once learnt it keeps."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from pipeline.errors import Refused, TerminalError, TransientError
from pipeline.schema_registry import RegistryOptions

_JSON = "application/vnd.schemaregistry.v1+json"
_NO_SUCH = frozenset({40401, 40402, 40403})  # subject, version, schema
_BUSY = frozenset({408, 429})


class UnknownSchemaError(TerminalError):
    """The registry has no schema of this id."""


class IncompatibleSchemaError(TerminalError):
    """The registry takes no such schema under this subject."""


class SchemaRegistry:
    """One registry. Its methods raise TransientError where it cannot be reached, and Refused where it lets nobody in."""

    def __init__(self, options: RegistryOptions) -> None:
        self._options = options
        self._client: httpx.Client | None = None
        self._schemas: dict[int, Mapping[str, Any]] = {}
        self._ids: dict[tuple[str, str], int] = {}

    def schema(self, number: int) -> str:
        """The text of the schema with this id. Raises UnknownSchemaError."""
        return str(self.described(number)["schema"])

    def described(self, number: int) -> Mapping[str, Any]:
        """What is known of the schema with this id: `schema`, perhaps `schemaType` and `references`. Raises UnknownSchemaError."""
        known = self._schemas.get(number)
        if known is None:
            answer = self._ask("GET", f"/schemas/ids/{number}")
            if answer is None:
                raise UnknownSchemaError(f"the schema registry at {self._options.address} has no schema with the id {number}")
            known = self._schemas[number] = self._schema_of(answer)
        return known

    def version(self, subject: str, version: int) -> Mapping[str, Any]:
        """The same of one version of a subject, to which another schema refers. Raises UnknownSchemaError."""
        answer = self._ask("GET", f"/subjects/{quote(subject, safe='')}/versions/{version}")
        if answer is None:
            raise UnknownSchemaError(f"the schema registry at {self._options.address} has no version {version} of {subject}")
        return self._schema_of(answer)

    def registered(self, subject: str, schema: str) -> int | None:
        """The id under which the subject has this schema; None where it has not."""
        found = self._ids.get((subject, schema))
        if found is None:
            answer = self._ask("POST", f"/subjects/{quote(subject, safe='')}", {"schema": schema})
            if answer is None:
                return None
            found = self._ids[subject, schema] = int(answer["id"])
        return found

    def check(self, subject: str, schema: str) -> None:
        """Raises IncompatibleSchemaError where something speaks against this schema as the subject's next; changes nothing."""
        path = f"/compatibility/subjects/{quote(subject, safe='')}/versions/latest?verbose=true"
        answer = self._ask("POST", path, {"schema": schema})
        if answer is None or answer.get("is_compatible", True):  # a new subject has nothing against it
            return
        said = tuple(str(message) for message in answer.get("messages") or ()) or ("the registry does not say why",)
        raise self._incompatible(subject, said)

    def register(self, subject: str, schema: str) -> int:
        """The id of the schema under the subject, which gets it if need be. Raises IncompatibleSchemaError; nothing is changed then."""
        known = self.registered(subject, schema)
        if known is not None:
            return known
        self.check(subject, schema)
        answer = self._ask("POST", f"/subjects/{quote(subject, safe='')}/versions", {"schema": schema})
        if answer is None:
            raise Refused(f"the schema registry at {self._options.address} does not know the subject {subject}")
        self._ids[subject, schema] = int(answer["id"])
        return int(answer["id"])

    def close(self) -> None:
        """Lets go of connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _schema_of(self, answer: Any) -> Mapping[str, Any]:
        if not isinstance(answer, dict) or not isinstance(answer.get("schema"), str):
            raise Refused(
                f"what answers at {self._options.address} is no schema registry", hint="look at the address, and what path belongs to it"
            )
        return answer

    def _incompatible(self, subject: str, said: Sequence[str]) -> IncompatibleSchemaError:
        return IncompatibleSchemaError(
            f"the schema registry at {self._options.address} finds the new schema of {subject} not compatible with those that it has:"
            f" {'; '.join(said)[:1000]}",
            hint=f"change the dataset back, set another compatibility level for {subject}, or write to another topic",
        )

    def _ask(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        """The answer as JSON; None where there is no such thing."""
        headers = {"Accept": f"{_JSON}, application/json", "Content-Type": _JSON}
        content = None if body is None else json.dumps(body)
        try:
            answer = self._connected().request(method, self._options.url.rstrip("/") + path, content=content, headers=headers)
        except httpx.InvalidURL as error:
            raise Refused(f"the address of the schema registry {self._options.address} is none: {error}") from error
        except httpx.HTTPError as error:
            raise self._away(str(error) or type(error).__name__) from error
        try:
            found = answer.json()
        except ValueError:
            found = None
        said = found if isinstance(found, dict) else {}
        if answer.status_code == httpx.codes.NOT_FOUND and said.get("error_code") in _NO_SUCH:
            return None
        message = str(said.get("message") or answer.reason_phrase)
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or answer.status_code in _BUSY:
            raise self._away(f"{answer.status_code} {message}")
        if answer.status_code == httpx.codes.CONFLICT:
            raise self._incompatible(path.split("/")[2], [message])
        if answer.is_error or found is None:
            raise Refused(
                f"the schema registry at {self._options.address} refuses {method} {path.partition('?')[0]}: {answer.status_code} {message}",
                hint="look at the address, and at who may do what there",
            )
        return found

    def _away(self, why: str) -> TransientError:
        message = f"the schema registry at {self._options.address} cannot be reached: {why}"
        return TransientError(message, hint="is it running, and is the address right?")

    def _connected(self) -> httpx.Client:
        if self._client is None:
            options = self._options
            verify: ssl.SSLContext | bool = options.verify
            try:
                if options.verify and (options.ca or options.certificate):
                    verify = ssl.create_default_context(cafile=options.ca)
                    if options.certificate:
                        verify.load_cert_chain(options.certificate, options.key)
            except OSError as error:
                raise Refused(f"the certificates for the schema registry at {options.address} cannot be used: {error}") from error
            auth = None if options.username is None else (options.username, options.password or "")
            self._client = httpx.Client(headers=dict(options.headers), auth=auth, timeout=options.timeout, verify=verify)
        return self._client
