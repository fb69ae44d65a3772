"""Choice of the drafter and the draft length: measured costs, estimated acceptance, and the decision."""
