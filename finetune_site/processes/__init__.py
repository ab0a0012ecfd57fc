"""The parts of `manage.py up`, which starts the processes of a site and ends them."""
