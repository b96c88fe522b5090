"""The block of a pipeline file that names a folder of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, model_validator

from pipeline.errors import ConfigError
from pipeline.file import Duration, Text
from pipeline.model import Block
from sources.declared import FieldTypes, unknown_path
from sources.files.pattern import Pattern
from sources.records.base import DecodeOptions, RecordSchema
from sources.records.base import Field as RecordField
from sources.records.files import make_reader

S3 = "s3://"


def _place(path: str, info: ValidationInfo) -> str:
    if path.startswith(S3):
        if not path.removeprefix(S3).partition("/")[0]:
            raise ValueError("the bucket is missing: write s3://BUCKET/PREFIX")
        return path.rstrip("/")
    folder = (info.context or {}).get("folder")
    found = Path(path).expanduser()
    return str(found if folder is None else Path(folder, found))


def _pattern(text: str) -> str:
    Pattern(text)
    return text


class S3Block(Block):
    """Where a bucket is and who asks for it. What is left out is taken from the environment (AWS_…), as every client of S3 does."""

    endpoint: Text | None = None
    """The address of a service other than Amazon's, such as http://minio:9000."""
    region: Text | None = None
    """The bucket's region."""
    access_key: Text | None = None
    """The id of an access key."""
    secret_key: SecretStr | None = None
    """The key itself."""
    session_token: SecretStr | None = None
    """What belongs to a key that was lent for some time."""
    anonymous: bool = False
    """Whether it is asked without any key."""

    @model_validator(mode="after")
    def _together(self) -> S3Block:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("`access_key` and `secret_key` go together")
        return self


class FilesConfig(Block):
    """A folder, or a prefix of an S3 bucket: each file that comes to lie there is read once."""

    path: Annotated[Text, AfterValidator(_place)]
    """The folder, or s3://BUCKET/PREFIX."""
    pattern: Annotated[Text, AfterValidator(_pattern)] = "*"
    """Which of its files are read."""
    format: Literal["csv", "xml", "json", "parquet"]
    """How files are written; json is one object a line."""
    record: Text | None = None
    """xml: the name of the element that is one record."""
    settle_seconds: Duration = 1.0
    """A file is read once it has been still for so long."""
    schema_: FieldTypes = Field(default_factory=dict, alias="schema")
    """Field -> Postgres type; what a map's `input` has. By default the columns of the dataset's contract."""
    paths: dict[Text, Text] = Field(default_factory=dict)
    """Field -> where it is in a record, as names joined by dots (csv: the column's name); by default it is under its own name."""
    extra: Literal["keep", "drop", "quarantine"] = "drop"
    """What becomes of fields that the schema does not have: kept as JSON in the column `_extra`, dropped, or the record is held back."""
    strict: bool = False
    """Whether an object with a name twice is bad; otherwise the last one wins."""
    s3: S3Block = Field(default_factory=S3Block)
    """Where the bucket is, and the credentials."""

    @model_validator(mode="after")
    def _readable(self) -> FilesConfig:
        if self.format == "xml" and self.record is None:
            raise ValueError("`format: xml` needs `record`: the name of the element that is one record")
        if self.record is not None and self.format != "xml":
            raise ValueError(f"`record` says which element of xml is one record; the format here is {self.format}")
        if self.schema_:
            problem = unknown_path(self.paths, self.schema_)
            if problem is not None:
                raise ValueError(problem)
            schema = RecordSchema(tuple(RecordField(*field) for field in self.schema_.items()))
            try:
                make_reader(self.format, schema, self.decoding, self.record)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self

    @property
    def stream(self) -> str:
        """See SourceBlock.stream: the source's own name."""
        return ""

    @property
    def described(self) -> bool:
        """See SourceBlock.described."""
        return bool(self.schema_)

    @property
    def decoding(self) -> DecodeOptions:
        return DecodeOptions(self.extra, self.strict, self.paths)
