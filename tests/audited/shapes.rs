//! Functions of every shape.

use super::*;

struct Desk {
    greeting: String,
}

#[async_trait::async_trait]
trait Greeter {
    async fn greet(&self, name: &str, (times, _): (u8, u8)) -> Result<String, Failed>;
}

#[async_trait::async_trait]
impl Greeter for Desk {
    #[audited(tool, name = "greet", external(len = output.len(), own = self.greeting.len()))]
    async fn greet(&self, name: &str, (times, _): (u8, u8)) -> Result<String, Failed> {
        tokio::task::yield_now().await;
        if name.is_empty() {
            return Err(Failed::Declined(0));
        }
        Ok(format!("{}, {name}!", self.greeting).repeat(usize::from(times)))
    }
}

#[tokio::test]
async fn async_trait_methods_are_recorded_when_they_run() {
    let fixture = Fixture::new();
    let desk: Box<dyn Greeter> = Box::new(Desk { greeting: "Hi".into() });
    drop(desk.greet("never polled", (1, 0)));
    assert_eq!(fixture.run(desk.greet("Al", (2, 0))).await.unwrap(), "Hi, Al!Hi, Al!");
    fixture.run(desk.greet("", (1, 0))).await.unwrap_err();

    let sink = fixture.recorded().await;
    sink.tools().assert_count(2);
    let greeted = sink.tools().with_status(ToolStatus::Ok).only();
    assert_eq!(greeted.input(), json!({"name": "Al", "arg1": [2, 0]}));
    let external = &greeted.completed().unwrap().external_ids;
    assert_eq!((external[0].value.as_str(), external[1].value.as_str()), ("14", "2"));
    assert_eq!(sink.tools().with_status(ToolStatus::Error).only().input()["name"], json!(""));
}

#[tokio::test]
async fn blocking_functions_and_their_panics_are_recorded() {
    #[audited(tool)]
    fn halve(n: u32) -> Result<u32, Failed> {
        assert!(n.is_multiple_of(2), "odd");
        Ok(n / 2)
    }

    let fixture = Fixture::new();
    assert_eq!(fixture.session.run(|| halve(4)).unwrap(), 2);
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| fixture.session.run(|| halve(3))));
    assert_eq!(*panic.unwrap_err().downcast_ref::<&str>().unwrap(), "odd");

    let sink = fixture.recorded().await;
    assert_eq!(sink.tools().with_status(ToolStatus::Ok).only().output(), json!(2));
    assert_eq!(sink.tools().with_status(ToolStatus::Panicked).only().error(), Some("odd"));
}

#[tokio::test]
async fn generic_functions_are_recorded_for_each_type() {
    #[audited(tool)]
    async fn echo<T: Serialize + Clone>(value: &T) -> Result<impl Serialize + use<'_, T>, Failed> {
        Ok(vec![value.clone()])
    }

    let fixture = Fixture::new();
    fixture.run(echo(&1)).await.map(drop).unwrap();
    fixture.run(echo(&"a")).await.map(drop).unwrap();
    let sink = fixture.recorded().await;
    let outputs: Vec<_> = sink.tools().iter().map(agent_audit::memory::ToolCall::output).collect();
    assert_eq!(outputs, [json!([1]), json!(["a"])]);
}
