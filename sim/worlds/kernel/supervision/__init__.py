"""The supervisor process of a kernel lab: owns its namespaces, runs it in real time, and answers requests."""
