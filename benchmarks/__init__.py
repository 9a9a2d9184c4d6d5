"""What a guarded call costs beside its peers, and how that cost grows: ``make bench``.

Where to add what: a side (one way to make a call) goes to `ours` or `peers`, a comparison of two
sides to `comparisons`, a measurement with a process of its own to `memory` or `scraping`, a curve
to `growth`.
"""
