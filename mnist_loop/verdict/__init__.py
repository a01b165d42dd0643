"""What was found out about a loop, on its way to people and programs: a report, then text or JSON."""
