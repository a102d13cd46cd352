"""What a provider offers, as last read. It belongs to the installation: every team sees the same list."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

USD = {"max_digits": 20, "decimal_places": 12, "null": True}


class Catalog(models.Model):
    """One integration's catalog: when it was read, and which version of it this is."""

    integration = models.CharField(max_length=40, unique=True)
    version = models.PositiveIntegerField(default=0, help_text="grows whenever something in it changed")
    read_at = models.DateTimeField(null=True, help_text="when it was last read whole; null while it is unknown")
    tried_at = models.DateTimeField(null=True)
    failure = models.CharField(max_length=300, blank=True, help_text="why the last reading failed, in words")


class CatalogModel(models.Model):
    """One model of a catalog. Prices are US dollars per token; null means that the price varies or is unknown."""

    catalog = models.ForeignKey(Catalog, on_delete=models.CASCADE, related_name="models")
    model_id = models.CharField(max_length=200, help_text="what a request names")
    canonical_slug = models.CharField(max_length=200, blank=True)
    name = models.CharField(max_length=200)
    alias_of = models.CharField(max_length=200, blank=True, help_text="the model that an alias means today")
    price_in = models.DecimalField(**USD)
    price_out = models.DecimalField(**USD)
    price_request = models.DecimalField(**USD)
    context_length = models.PositiveIntegerField(null=True)
    max_output = models.PositiveIntegerField(null=True)
    input_modalities = ArrayField(models.CharField(max_length=20), default=list)
    output_modalities = ArrayField(models.CharField(max_length=20), default=list)
    parameters = ArrayField(models.CharField(max_length=40), default=list)
    data = models.JSONField(default=dict, help_text="the record as the provider wrote it")
    listed_at = models.DateTimeField(null=True)
    expires_on = models.DateField(null=True, help_text="when the provider withdraws it")
    seen_at = models.DateTimeField()
    gone_at = models.DateTimeField(null=True, help_text="when it was first missing from the list")
    endpoints_at = models.DateTimeField(null=True, help_text="when all its endpoints were last read")
    held_back = models.CharField(max_length=300, blank=True, help_text="why its new prices are not used yet")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["catalog", "model_id"], name="one_catalog_model_per_id")]


class CatalogEndpoint(models.Model):
    """One provider's offer of one model. Prices as those of a model; latency in ms, throughput in tokens a second."""

    model = models.ForeignKey(CatalogModel, on_delete=models.CASCADE, related_name="endpoints")
    tag = models.CharField(max_length=120, help_text="slug, or slug/variant")
    provider_slug = models.CharField(max_length=80)
    provider_name = models.CharField(max_length=80)
    price_in = models.DecimalField(**USD)
    price_out = models.DecimalField(**USD)
    price_request = models.DecimalField(**USD)
    context_length = models.PositiveIntegerField(null=True)
    max_output = models.PositiveIntegerField(null=True)
    parameters = ArrayField(models.CharField(max_length=40), default=list)
    is_zdr = models.BooleanField(default=False, help_text="in the provider's own list of zero-retention endpoints")
    status = models.SmallIntegerField(null=True)
    latency_ms = models.FloatField(null=True, help_text="median to the first token")
    throughput = models.FloatField(null=True, help_text="median")
    data = models.JSONField(default=dict)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "tag"], name="one_catalog_endpoint_per_tag")]


class CatalogProvider(models.Model):
    """Who serves models, and from where, as far as the provider list says."""

    catalog = models.ForeignKey(Catalog, on_delete=models.CASCADE, related_name="providers")
    slug = models.CharField(max_length=80)
    name = models.CharField(max_length=80)
    headquarters = models.CharField(max_length=8, blank=True)
    datacenters = ArrayField(models.CharField(max_length=8), default=list)
    data = models.JSONField(default=dict)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["catalog", "slug"], name="one_catalog_provider_per_slug")]
