"""Conformance suite for device drivers: each promise of a trait's docstring as a check function.

A driver's author writes a **bench**: the driver, and control of the hardware behind it. Each check takes a fresh
bench and asserts one obligation. `DISK_CHECKS` and the other tuples list them for `pytest.mark.parametrize`:

    @pytest.mark.parametrize("check", DISK_CHECKS)
    def test_my_disk(check, tmp_path):
        check(MyDiskBench(tmp_path))

A check that is a coroutine function needs an event loop: `asyncio.run(check(bench))`.
"""

from hal.contract.clock import CLOCK_CHECKS
from hal.contract.crypto import CRYPTO_CHECKS, CryptographicModuleBench
from hal.contract.disk import DISK_CHECKS, DiskBench
from hal.contract.ethernet import ETHERNET_CHECKS, EthernetBench
from hal.contract.indicators import INDICATORS_CHECKS, IndicatorsBench
from hal.contract.machine import MACHINE_CHECKS, MachineBench
from hal.contract.partition import PARTITION_CHECKS, PartitionBench
from hal.contract.serial import SERIAL_CHECKS, SerialBench
from hal.contract.watchdog import WATCHDOG_CHECKS, WatchdogBench

__all__ = [
    "CLOCK_CHECKS",
    "CRYPTO_CHECKS",
    "DISK_CHECKS",
    "ETHERNET_CHECKS",
    "INDICATORS_CHECKS",
    "MACHINE_CHECKS",
    "PARTITION_CHECKS",
    "SERIAL_CHECKS",
    "WATCHDOG_CHECKS",
    "CryptographicModuleBench",
    "DiskBench",
    "EthernetBench",
    "IndicatorsBench",
    "MachineBench",
    "PartitionBench",
    "SerialBench",
    "WatchdogBench",
]
