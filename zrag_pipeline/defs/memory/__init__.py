"""The skill, the memories of both policies, and the report on them."""
