"""One line of text per event on standard error, `key=value` after the message."""

import logging
import sys
import traceback
import uuid


def configure(level: str, node: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {node} %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def log_unexpected(logger: logging.Logger, doing: str) -> str:
    """Log the exception being handled with its trace; returns the id that the outside may see in its place."""
    error_id = uuid.uuid4().hex[:12]
    logger.exception("unexpected error id=%s while %s", error_id, doing)
    return error_id


def place_of(error: Exception) -> str:
    """Where in the code it arose, without what it says: that may be of somebody else's business."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"in {frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno}" if frames else "somewhere"
