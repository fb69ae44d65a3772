"""Parts of the measuring scripts: runs, schedules, peers, statistics, results and their pages."""
