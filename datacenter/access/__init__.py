"""Access control: who may do what with which resource, for which purpose, and until when.

The rights are Cedar policies (`datacenter/access/policies/*.cedar`), which `datacenter.access.compiled` compiles into
decisions about requests.
"""
