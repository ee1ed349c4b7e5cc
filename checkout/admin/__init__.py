"""The read-only screens of checkout, and the few decisions that people take on them.

Every list has an order that an index gives, filters with fixed choices, and a search that looks up
one index (R47): at five million charges a page still comes in well under a second.
"""

from django.contrib import admin

from checkout.admin import charges, creators, holds, records, requeues, trail

__all__ = ["charges", "creators", "holds", "records", "requeues", "trail"]

admin.site.site_header = admin.site.site_title = "Checkout Service"
admin.site.index_title = "What was owed, charged, booked and published"
admin.site.site_url = None
# Accounts of staff stay editable, as Django has them; nothing is deleted in bulk.
admin.site.disable_action("delete_selected")
