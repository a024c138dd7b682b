"""Provisioning: configures an installed system as the box of one laboratory, from the site file.

The same program, /usr/lib/rap/provision, is used in all cases: the kickstart calls it in %post, the builder of disk
images calls it in the image's tree, and rap-provision.service calls it at each start of a flashed box. It is
part of the box's package and imports only modules of that package.
"""
