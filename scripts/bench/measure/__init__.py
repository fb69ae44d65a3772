"""Parts of the measuring scripts: records of runs, schedules, statistics, peers, tables and pictures."""
