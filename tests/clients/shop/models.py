"""What a shop keeps."""

from django.db import models


class Order(models.Model):
    number = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        return self.number
