"""What is shown cannot stop the service, and is what the gates hold."""

from harness.service import Starter


async def test_the_service_goes_on_when_nobody_reads_its_output(start_service: Starter) -> None:
    service = start_service()
    await service.until(lambda status: status["ready"])
    assert service.process.stdout
    service.process.stdout.close()  # The next line that is printed finds a broken pipe.
    for n in range(3):
        assert (await service.ask(f"hello {n}")).status == 200
    await service.until_quiet()
    assert service.process.poll() is None
