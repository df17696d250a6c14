-- The views are made from the table's columns, see schema.py; the number stays for databases that have it applied.
SELECT 1;
