from __future__ import annotations

import pytest

from tests.support.wire.lines import MessageKeeper
from wire.standards.astm_dialect import AstmDialect
from wire.standards.lis1.endpoint import Lis1Endpoint


@pytest.fixture
def messages() -> MessageKeeper:
    return MessageKeeper()


@pytest.fixture
def host(messages: MessageKeeper) -> Lis1Endpoint:
    return Lis1Endpoint(messages, AstmDialect())
