import pytest

from meshwire.identity import DeviceId, IdentityError, TenantId

MAC = "001350050047dd92"


@pytest.mark.parametrize(
    "text",
    [
        MAC,
        MAC.upper(),
        "00:13:50:05:00:47:dd:92",
        "00-13-50-05-00-47-DD-92",
        "SSN001350050047dd92.SG.YEL01.SSN.SSNSGS.NET",
        "ssn001350050047DD92.sg.prod.star.ssnsgs.net",
        f"  {MAC} ",
    ],
)
def test_every_usual_spelling_is_one_device(text: str) -> None:
    assert DeviceId.parse(text) == DeviceId(MAC)


@pytest.mark.parametrize("text", ["", "00135005", MAC + "0", "x" * 16, "SSN.example", "host.example"])
def test_what_is_no_device_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(IdentityError, match="16 hex"):
        DeviceId.parse(text)


def test_the_host_name_leads_back_to_the_device() -> None:
    assert DeviceId.parse(DeviceId(MAC).host("SG.YEL01.SSN.SSNSGS.NET")) == DeviceId(MAC)
    assert DeviceId(MAC).eui64.hex() == MAC


@pytest.mark.parametrize("text", ["a", "A-b_9", "x" * 64])
def test_tenant_ids_of_the_allowed_characters(text: str) -> None:
    assert str(TenantId(text)) == text


@pytest.mark.parametrize("text", ["", "x" * 65, "a.b", "a/b", "a+b", "#", "a b", "ä", "$SYS", "a%", "a\0"])
def test_a_tenant_id_that_could_leak_is_refused(text: str) -> None:
    with pytest.raises(IdentityError, match="tenant id"):
        TenantId(text)
