"""Access control: who may do what with which resource, for which purpose, and until when.

The rights are Cedar policies (`datacenter/access/policies/*.cedar`). One text has three uses: the decision about a
request (`datacenter.access.compiled`), the WHERE clause of a list (`datacenter.access.language.sql`), and the proof
of theorems about all requests (`datacenter.access.proof.prove`). `datacenter.access.control` is the interface for the
rest of the data center.
"""
