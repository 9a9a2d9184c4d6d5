"""Alert rules and a dashboard, made from the declared policies and flags."""
