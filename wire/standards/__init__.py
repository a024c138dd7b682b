"""Laboratory instrument standards: ASTM/LIS, HL7, POCT1-A and Beckman AU, without any input or output.

An engine receives bytes and returns actions (`engine`); from a complete message it extracts findings (`extract`):
reports without a number, whose fields are integers and words of the instrument's profile, and counts of omitted
content. Nothing else leaves an engine, and no exception or log message contains a byte that an instrument sent.
"""
