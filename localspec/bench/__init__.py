"""Compare a pair with and without drafting: paired runs, statistics, replays at the costs of other machines."""
