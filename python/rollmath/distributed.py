"""Groups that are spread over ranks: the same bits as on one process."""

__all__: list[str] = []
