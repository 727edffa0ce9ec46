"""What pymongo raises, as the storage's own errors."""

from __future__ import annotations

from types import TracebackType

from bson.errors import BSONError
from pymongo.errors import DocumentTooLarge, DuplicateKeyError, PyMongoError, WriteError

from storage import DuplicateKey, RecordRejected, StorageUnavailable

_REJECTED = (DocumentTooLarge, WriteError, BSONError, UnicodeEncodeError, OverflowError, RecursionError)


class Translated:
    """A context that raises `StorageError` in the place of what the driver raises inside."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        match error:
            case None:
                return
            case DuplicateKeyError():
                raise DuplicateKey("The audit log has this record already.") from error
            case _ if isinstance(error, _REJECTED):
                raise RecordRejected("The audit log does not take this record.") from error
            case PyMongoError():
                raise StorageUnavailable("The audit log cannot be reached.") from error
