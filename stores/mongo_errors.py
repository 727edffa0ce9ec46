"""What pymongo raises, as the storage's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bson.errors import BSONError
from pymongo.errors import DocumentTooLarge, DuplicateKeyError, PyMongoError, WriteError

from storage import DuplicateKey, RecordRejected, StorageUnavailable


@contextmanager
def translated() -> Iterator[None]:
    """Raises: `StorageError` in the place of what the driver raises inside."""
    try:
        yield
    except DuplicateKeyError as error:
        raise DuplicateKey("The audit log has this record already.") from error
    except (DocumentTooLarge, WriteError, BSONError, UnicodeEncodeError, OverflowError, RecursionError) as error:
        raise RecordRejected("The audit log does not take this record.") from error
    except PyMongoError as error:
        raise StorageUnavailable("The audit log cannot be reached.") from error
