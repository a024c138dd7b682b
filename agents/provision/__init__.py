"""Provisioning: what makes an installed system one laboratory's box, from its site file.

It is one program, /usr/lib/rap/provision, for all ways of making a box: the kickstart calls it in %post, the builder
of disk images in its tree, and rap-provision.service at a flashed box's first start. It ships in the box's package,
and imports nothing that does not.
"""
