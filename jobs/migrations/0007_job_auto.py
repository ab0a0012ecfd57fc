from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0006_api'),
    ]

    operations = [
        migrations.AddField(
            model_name='job',
            name='auto',
            field=models.JSONField(blank=True, default=list),
        ),
    ]
