"""Users and servers, as for the datasets."""

from tests.dataset.conftest import client, web

__all__ = ["client", "web"]
