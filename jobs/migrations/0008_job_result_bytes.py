from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0007_job_auto"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="result_bytes",
            field=models.BigIntegerField(blank=True, null=True),
        ),
    ]
