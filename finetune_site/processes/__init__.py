"""What `manage.py up` is made of: the processes of a site, started and kept alive."""
