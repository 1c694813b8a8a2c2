"""Schedules as data, their simulator, the partitioner and the segment runtime."""
