"""Sensors, errors, reagents and controls of each simulated model agree with the model's profile."""

from __future__ import annotations

import pytest

from settings.profile import load_profile
from sim.instruments import load_model, model_names
from sim.instruments.trouble import LAMP_OLD, Catalogue


@pytest.mark.parametrize("name", model_names())
def test_sensors_have_the_resolution_and_normal_range_of_the_profile(name: str) -> None:
    channels = load_profile(name).channels
    for sensor in load_model(name).sensors:
        channel = channels[sensor.channel]
        assert (channel.resolution, channel.normal) == (sensor.step, [sensor.low, sensor.high])


@pytest.mark.parametrize("name", model_names())
def test_each_trouble_has_the_component_and_severity_of_its_code(name: str) -> None:
    model, errors = load_model(name), load_profile(name).errors
    for trouble in Catalogue(model):
        if trouble is not LAMP_OLD or model.lamp:
            error = errors[trouble.code]
            assert (error.component, error.severity) == (trouble.component, trouble.severity), trouble.code


@pytest.mark.parametrize("name", model_names())
def test_reagents_and_controls_are_assays_of_the_profile(name: str) -> None:
    model, profile = load_model(name), load_profile(name)
    assert {reagent.assay for reagent in model.reagents} | set(model.controls) == set(profile.assays)
