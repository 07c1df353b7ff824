"""What batches have shown: whether the outputs of a signature can be split at all."""

import logging

logger = logging.getLogger("pyserving.batching")


class Refusal:
    """For some outputs of a signature. Used by several threads at once, a lost update does no harm."""

    def __init__(self, label: str) -> None:
        self.refused = False
        """Requests are not joined any more."""
        self._label = label

    def refuse(self) -> None:
        """The outputs do not have a row for each row of the inputs, though somebody said that they may be joined."""
        if not self.refused:
            self.refused = True
            logger.info(
                "Requests of %s are not joined into batches: its outputs do not have a row for each row of the inputs",
                self._label,
            )
