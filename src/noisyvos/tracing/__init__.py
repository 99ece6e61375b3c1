"""Where a number comes from: its chain (`trace`), what changed (`why`), a second run (`verify`)."""
