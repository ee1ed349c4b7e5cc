"""How dates are written on screens: as ISO 8601 does, so that they sort and cannot be misread."""
