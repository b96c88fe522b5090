"""Which trouble is told to whom, and when: pure, from what is the case now and what was told before."""
