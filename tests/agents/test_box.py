"""The box whole: instruments in, data center out, over real mutual TLS on loopback."""

from __future__ import annotations

import asyncio

from agents.box import Box
from hal.emul.ethernet import EmulEthernetPort
from tests.agents.boxes import box_config, disk, running_agent, running_box
from tests.agents.hierarchy import Hierarchy
from tests.agents.stand_in import stand_in
from wire.messages import Alert, Command, CommandResult, Quality
from wire.vocabulary import Outcome


def test_reports_travel_from_instrument_to_data_center_once(pki: Hierarchy) -> None:
    async def scenario() -> None:
        async with stand_in(pki.datacenter) as center:
            config = box_config(pki, center.server.port, linger_s=0)
            async with running_box(config, disk()) as box, running_agent(box, pki.instrument) as agent:
                for _ in range(300):
                    agent.submit(Quality, "glu", 1, 17)
                await center.until(lambda: len(center.reports) == 300)
                assert sorted(center.reports) == [("CHEM-1", 1, number) for number in range(1, 301)]
                assert list(agent.acknowledged) == [(1, 300)]
                status = await box.status()
                assert status is not None
                assert status.is_connected
                assert status.traffic.cipher == "TLS_AES_128_GCM_SHA256"
                assert status.reports_accepted == 300
                assert center.repeated == 0

    asyncio.run(scenario())
