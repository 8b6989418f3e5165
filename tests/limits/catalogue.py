"""The limits, by name, in the order in which they are shown."""

from tests.limits import buffers, descriptors, disk, resets, select_ceiling, threads

LIMITS = {
    module.LIMIT.name: module.LIMIT
    for module in (descriptors, select_ceiling, threads, resets, buffers, disk)
}
