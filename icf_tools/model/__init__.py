"""Values that every step shares; nothing here reads or writes."""
