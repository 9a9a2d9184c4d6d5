"""Alert rules and a dashboard, made from the policies and flags that are declared."""
